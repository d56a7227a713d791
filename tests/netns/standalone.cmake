# Python on the built binaries, in namespaces of its own.
foreach(class NodeTest ClsactTest TwoNodesTest)
  add_test(NAME standalone.${class}
    COMMAND python3 "${CMAKE_CURRENT_SOURCE_DIR}/standalone_test.py" "${PROJECT_BINARY_DIR}" ${class})
  set_tests_properties(standalone.${class} PROPERTIES LABELS netns TIMEOUT 300)
endforeach()
