# The CNI binary against a fake daemon. StaticBinary is apart: a build with sanitizers is not static.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME netns.cni
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/cni_test.py $<TARGET_FILE:sluice-cni> Add RollBack Del Check Gc Status)
set_tests_properties(netns.cni PROPERTIES LABELS netns)
if(NOT SLUICE_SANITIZE)
  add_test(NAME netns.cni_static
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/cni_test.py $<TARGET_FILE:sluice-cni> StaticBinary)
  set_tests_properties(netns.cni_static PROPERTIES LABELS netns)
endif()
