# SPDX-License-Identifier: Apache-2.0
# forja_layer(NAME [AFTER layer ...] [USES library ...]): the static library forja_NAME from csrc/NAME, without main.cc and
# without what differs between builds with and without CUDA (forja_gpu).
function(forja_layer name)
  cmake_parse_arguments(L "" "" "AFTER;USES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/${name}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  list(FILTER sources EXCLUDE REGEX "/device/(cuda|no_cuda|emulated)/")
  add_library(forja_${name} STATIC ${sources})
  target_include_directories(forja_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include)
  target_include_directories(forja_${name} PRIVATE ${CMAKE_SOURCE_DIR})
  foreach(layer ${L_AFTER})
    target_link_libraries(forja_${name} PUBLIC forja_${layer})
  endforeach()
  target_link_libraries(forja_${name} PUBLIC ${L_USES} nlohmann_json::nlohmann_json Threads::Threads PRIVATE forja_flags)
endfunction()

# What a GPU is, for the layers above: its memory and streams, and the launchers of kernels/. Every executable links one of
#   forja_gpu           the real one with CUDA; without, one that is never there
#   forja_gpu_emulated  runs the kernels' own source on the CPU, for tests
# Both are objects, so that layers may call what they define.
function(forja_gpu_libraries)
  add_library(forja_gpu OBJECT)
  if(FORJA_HAS_CUDA)
    file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
    list(APPEND kernels ${CMAKE_SOURCE_DIR}/kernels/common/fail_launch.cc)
    file(GLOB runtime CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/device/cuda/*.cc)
    # Kernels use neither spilled registers nor stack frames: said as a warning, and an error where warnings are.
    set(ptxas -Xptxas=--warn-on-spills,--warn-on-local-memory-usage)
    if(FORJA_WERROR)
      list(APPEND ptxas -Xptxas=--warning-as-error)
      set_target_properties(forja_gpu PROPERTIES
        CUDA_COMPILER_LAUNCHER "${CMAKE_SOURCE_DIR}/cmake/check_ptxas.sh;${CMAKE_CUDA_COMPILER_LAUNCHER}")
    endif()
    target_compile_options(forja_gpu PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;${ptxas}>")
    target_link_libraries(forja_gpu PUBLIC CUDA::cudart_static)
  else()
    set(kernels ${CMAKE_SOURCE_DIR}/kernels/no_cuda.cc)
    file(GLOB runtime CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/device/no_cuda/*.cc)
  endif()
  target_sources(forja_gpu PRIVATE ${kernels} ${runtime})
  target_include_directories(forja_gpu PRIVATE ${CMAKE_SOURCE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(forja_gpu PUBLIC forja_device PRIVATE forja_flags)
endfunction()
