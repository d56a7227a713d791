# The CNI binary against a fake daemon. StaticBinary is apart: a build with sanitizers is not static.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
function(cni_test NAME SCRIPT)
  add_test(NAME netns.${NAME}
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_LIST_DIR}/${SCRIPT} $<TARGET_FILE:sluice-cni> ${ARGN})
  set_tests_properties(netns.${NAME} PROPERTIES LABELS netns)
endfunction()
cni_test(cni_add cni_add_test.py)
cni_test(cni_loopback cni_loopback_test.py)
cni_test(cni cni_test.py Del Check Gc Status)
if(NOT SLUICE_SANITIZE)
  cni_test(cni_static cni_test.py StaticBinary)
endif()
