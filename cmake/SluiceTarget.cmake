# What every C++ target of Sluice is compiled with. Warnings are errors.
add_library(sluice_options INTERFACE)
target_compile_options(sluice_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Werror)
target_include_directories(sluice_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_definitions(sluice_options INTERFACE SLUICE_VERSION="${PROJECT_VERSION}" SPDLOG_FMT_EXTERNAL)
if(SLUICE_SANITIZE)
  # GCC's own documentation: the sanitizers' instrumentation makes this warning cry wolf (std::function, std::regex).
  target_compile_options(sluice_options INTERFACE -Wno-maybe-uninitialized)
  target_compile_options(sluice_options INTERFACE
    -fsanitize=${SLUICE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()
if(SLUICE_FUZZ)
  # clang's warnings are clang-tidy's matter.
  target_compile_options(sluice_options INTERFACE
    -w -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(sluice_options INTERFACE -fsanitize=address,undefined)
endif()

# For what is installed on nodes: where the compiler or the loader can, it makes a flaw end in an abort and not in
# somebody else's code. tests/unit/hardening_test.py looks for the marks in the binaries.
add_library(sluice_hardening INTERFACE)
if(NOT SLUICE_SANITIZE AND NOT SLUICE_FUZZ)
  # _FORTIFY_SOURCE works on optimized code only.
  target_compile_options(sluice_hardening INTERFACE -fstack-protector-strong
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
  # An index beyond the end of a container, an empty optional.
  target_compile_definitions(sluice_hardening INTERFACE _GLIBCXX_ASSERTIONS)
  target_link_options(sluice_hardening INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

# sluice_library(NAME SOURCES ... LINK ...): a stage of the daemon or a shared part.
function(sluice_library NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${NAME} STATIC ${ARG_SOURCES})
  target_link_libraries(${NAME} PUBLIC ${ARG_LINK} PRIVATE sluice_options sluice_hardening)
  target_include_directories(${NAME} PUBLIC "${PROJECT_SOURCE_DIR}")
endfunction()
