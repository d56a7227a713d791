# The CNI binary with the daemon, as a runtime uses them.
foreach(script add_race cni_bandwidth cni_chain cni_leftovers cni_status)
  add_test(NAME netns.${script}
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_LIST_DIR}/${script}_test.py ${PROJECT_BINARY_DIR})
  set_tests_properties(netns.${script} PROPERTIES LABELS netns TIMEOUT 600)
endforeach()
