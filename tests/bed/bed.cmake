# SPDX-License-Identifier: BSD-2-Clause
# How the bed's libraries are built.
set(BED_LIB ${CMAKE_BINARY_DIR}/bed/lib)
set(BED_HYPERVISOR standin/hv.c standin/hv_evtchn.c standin/hv_grant.c)

function(bed_common target)
  set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${BED_LIB} C_VISIBILITY_PRESET default)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/standin)
  target_link_libraries(${target} PRIVATE blkback_warnings)
  target_compile_options(${target} PRIVATE -O2 -fno-strict-aliasing)
  target_link_options(${target} PRIVATE -Wl,--no-undefined)
endfunction()

# A library with the SONAME and the symbol versions of one of Xen's.
function(bed_library name)
  cmake_parse_arguments(ARG "HYPERVISOR" "SONAME" "SOURCES" ${ARGN})
  if(ARG_HYPERVISOR)
    list(APPEND ARG_SOURCES ${BED_HYPERVISOR})
  endif()
  add_library(bed_${name} SHARED ${ARG_SOURCES})
  bed_common(bed_${name})
  string(REGEX REPLACE "^lib(.*)$" "\\1" file ${ARG_SONAME})
  set_target_properties(bed_${name} PROPERTIES PREFIX "" SUFFIX "" OUTPUT_NAME ${ARG_SONAME} NO_SONAME ON)
  set(map ${CMAKE_CURRENT_SOURCE_DIR}/standin/lib${name}.map)
  target_link_options(bed_${name} PRIVATE -Wl,-soname,${ARG_SONAME} -Wl,--version-script=${map})
  set_target_properties(bed_${name} PROPERTIES LINK_DEPENDS ${map})
endfunction()

# A library that is preloaded, or loaded by the tests.
function(bed_module name)
  cmake_parse_arguments(ARG "HYPERVISOR" "" "SOURCES;LIBRARIES" ${ARGN})
  if(ARG_HYPERVISOR)
    list(APPEND ARG_SOURCES ${BED_HYPERVISOR})
  endif()
  add_library(${name} SHARED ${ARG_SOURCES})
  bed_common(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} ${CMAKE_DL_LIBS})
endfunction()
