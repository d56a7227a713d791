# Python on the built binaries, in namespaces of its own.
function(standalone_test SCRIPT)
  foreach(class ${ARGN})
    add_test(NAME standalone.${class}
      COMMAND python3 "${CMAKE_CURRENT_SOURCE_DIR}/${SCRIPT}" "${PROJECT_BINARY_DIR}" ${class})
    set_tests_properties(standalone.${class} PROPERTIES LABELS netns TIMEOUT 900)
  endforeach()
endfunction()
standalone_test(standalone_test.py NodeTest ClsactTest TwoNodesTest)
standalone_test(attach_test.py AttachTest MoveTest)
standalone_test(recurring_ports_test.py RecurringPortsTest ClsactRecurringPortsTest)
standalone_test(swap_load_test.py SwapLoadTest ClsactSwapLoadTest)
standalone_test(service_test.py ServiceTest ServiceTwoNodesTest)
standalone_test(node_service_test.py SocketNodeServicesTest PacketNodeServicesTest)
