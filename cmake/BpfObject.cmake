# bpf_object(NAME): compiles NAME.bpf.c of the current folder and generates NAME.skel.h; the target
# sluice_bpf_NAME carries the include path. Header dependencies come from clang's depfile.
# Options: SOURCE, TARGET, CPU (clang's -mcpu), for another build of the same object.
find_program(BPF_CLANG NAMES clang-16 clang REQUIRED)
find_program(BPF_STRIP NAMES llvm-strip-16 llvm-strip REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin REQUIRED)

# Of cmake/arm64.cmake, where user space is built for another machine. The objects themselves are the same for every one.
set(BPF_SYSROOT "")
if(CMAKE_SYSROOT)
  set(BPF_SYSROOT "--sysroot=${CMAKE_SYSROOT}" "-fdebug-prefix-map=${CMAKE_SYSROOT}=")
endif()

function(bpf_object NAME)
  cmake_parse_arguments(ARG "" "SOURCE;TARGET;CPU" "" ${ARGN})
  set(source "${CMAKE_CURRENT_SOURCE_DIR}/${NAME}.bpf.c")
  set(target sluice_bpf_${NAME})
  set(cpu v3)
  foreach(option source target cpu)
    string(TOUPPER ${option} given)
    if(ARG_${given})
      set(${option} "${ARG_${given}}")
    endif()
  endforeach()
  set(object "${CMAKE_CURRENT_BINARY_DIR}/${NAME}.bpf.o")
  set(skeleton "${CMAKE_CURRENT_BINARY_DIR}/${NAME}.skel.h")
  add_custom_command(
    OUTPUT "${object}"
    COMMAND "${BPF_CLANG}" -target bpf -mcpu=${cpu} -O2 -g -std=gnu11 -Wall -Wextra -Werror
            ${BPF_SYSROOT} -I "${PROJECT_SOURCE_DIR}/bpf" -idirafter "${CMAKE_SYSROOT}/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}"
            -MD -MF "${object}.d" -c "${source}" -o "${object}"
    COMMAND "${BPF_STRIP}" -g "${object}"
    # A constant without a name makes a section without variables: Linux 5.10 refuses all BTF of such an object.
    COMMAND sh -c "! \"$1\" btf dump file \"$2\" | grep 'DATASEC.*vlen=0'" check "${BPFTOOL}" "${object}"
    DEPENDS "${source}"
    DEPFILE "${object}.d"
    VERBATIM)
  add_custom_command(
    OUTPUT "${skeleton}"
    COMMAND "${BPFTOOL}" gen skeleton "${object}" name "${NAME}_bpf" > "${skeleton}.tmp"
    COMMAND "${CMAKE_COMMAND}" -E rename "${skeleton}.tmp" "${skeleton}"
    DEPENDS "${object}"
    VERBATIM)
  add_custom_target(${target}_files DEPENDS "${skeleton}")
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_files)
  # SYSTEM: generated code is not held to our warnings.
  target_include_directories(${target} SYSTEM INTERFACE "${CMAKE_CURRENT_BINARY_DIR}")
  target_include_directories(${target} INTERFACE "${PROJECT_SOURCE_DIR}/bpf")
  target_link_libraries(${target} INTERFACE PkgConfig::LIBBPF)
endfunction()
