# SPDX-License-Identifier: Apache-2.0
set(FORJA_CUDA AUTO CACHE STRING "Use CUDA: AUTO (where nvcc is found), ON or OFF")
set(FORJA_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
option(FORJA_WERROR "Treat warnings as errors" OFF)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(forja_flags INTERFACE)
target_compile_options(forja_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-unknown-pragmas -Wno-missing-field-initializers -ffp-contract=fast -fno-math-errno>)
if(FORJA_WERROR)  # GCC 12 sees overlaps in std::string that are not there (-Wrestrict)
  target_compile_options(forja_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror -Wno-error=restrict>)
endif()
if(FORJA_SANITIZE)
  target_compile_options(forja_flags INTERFACE -fsanitize=${FORJA_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(forja_flags INTERFACE -fsanitize=${FORJA_SANITIZE})
endif()

# Sources, by pattern, that fuzzers link and never run: sanitizers would take minutes on vector code, and Clang 14 cannot
# assemble coroutines with them.
function(forja_not_fuzzed)
  if(NOT FORJA_SANITIZE MATCHES "fuzzer")
    return()
  endif()
  foreach(pattern ${ARGN})
    file(GLOB sources ${CMAKE_SOURCE_DIR}/${pattern})
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "-O0;-g0;-fno-sanitize=all")
  endforeach()
endfunction()

# CUDA is optional: the layers swap whole files (csrc/<layer>/cuda against csrc/<layer>/no_cuda).
set(FORJA_HAS_CUDA OFF)
if(NOT FORJA_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real)
    endif()
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc 13 has C++20
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(FORJA_HAS_CUDA ON)
  elseif(FORJA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FORJA_CUDA=ON, but no CUDA compiler was found: set CUDACXX, or FORJA_CUDA=AUTO")
  endif()
endif()
message(STATUS "Forja: CUDA ${FORJA_HAS_CUDA}, build type ${CMAKE_BUILD_TYPE}, sanitizers '${FORJA_SANITIZE}'")
