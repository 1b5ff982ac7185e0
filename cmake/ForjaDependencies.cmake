# SPDX-License-Identifier: Apache-2.0
# Everything here is a Debian or Ubuntu package; examples/packages.sh installs them.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_path(ASIO_INCLUDE_DIR asio.hpp REQUIRED)
add_library(asio INTERFACE)
target_include_directories(asio SYSTEM INTERFACE ${ASIO_INCLUDE_DIR})

function(forja_pkg name module)
  pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${module})
  add_library(${name} ALIAS PkgConfig::${name})
endfunction()

# Debian's dnnl-config.cmake asks for OpenCL headers that its package does not need.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(dnnl INTERFACE)
target_include_directories(dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(dnnl INTERFACE ${DNNL_LIBRARY})

forja_pkg(yaml-cpp-pkg yaml-cpp)
forja_pkg(hwy libhwy)
forja_pkg(xxhash libxxhash)
forja_pkg(hwloc hwloc)
forja_pkg(pcre2 libpcre2-8)
forja_pkg(sentencepiece sentencepiece)
forja_pkg(utf8proc libutf8proc)
forja_pkg(zstd libzstd)
