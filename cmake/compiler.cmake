# SPDX-License-Identifier: BSD-2-Clause
# Warnings, hardening and sanitizers, as one interface library that every target of ours links.

add_library(blkback_warnings INTERFACE)
target_compile_options(blkback_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
  -Wmissing-prototypes -Wvla -Wformat=2 -Wnull-dereference -Wcast-qual -Wundef -Wswitch-enum
  -Wimplicit-fallthrough
  $<$<C_COMPILER_ID:GNU>:-Wlogical-op -Wduplicated-cond -Wduplicated-branches>
  $<$<BOOL:${BLKBACKD_WERROR}>:-Werror>)

add_library(blkback_common INTERFACE)
target_link_libraries(blkback_common INTERFACE blkback_warnings)
target_include_directories(blkback_common INTERFACE ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(blkback_common INTERFACE _GNU_SOURCE BLKBACKD_VERSION="${PROJECT_VERSION}")

if(BLKBACKD_SANITIZE)
  target_compile_options(blkback_common INTERFACE
    -fsanitize=${BLKBACKD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(blkback_common INTERFACE -fsanitize=${BLKBACKD_SANITIZE})
else()
  # _FORTIFY_SOURCE needs optimisation and hides overflows from the sanitizers, so it is not set for them.
  target_compile_options(blkback_common INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3>
    -fstack-protector-strong -fstack-clash-protection -fcf-protection)
  target_link_options(blkback_common INTERFACE -pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

# Coverage for libFuzzer's search; only the fuzz targets are linked with its main().
if(BLKBACKD_FUZZ)
  target_compile_options(blkback_common INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(blkback_common INTERFACE -fsanitize=fuzzer-no-link)
endif()
