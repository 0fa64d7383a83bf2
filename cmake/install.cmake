# SPDX-License-Identifier: BSD-2-Clause
# What goes where. Configuration and the hook go to fixed places, since xl and the daemon look there.
set(BLKBACKD_SYSCONFDIR "/etc" CACHE PATH "Where blkbackd/ and xen/scripts/ are")
set(BLKBACKD_UNITDIR "${CMAKE_INSTALL_PREFIX}/lib/systemd/system" CACHE PATH "Where systemd units go")

# The broker looks for its worker beside itself, then in ../libexec/blkbackd.
if(TARGET blkbackd AND TARGET blkbackd-worker)
  install(TARGETS blkbackd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
  install(TARGETS blkbackd-worker RUNTIME DESTINATION libexec/blkbackd)
endif()
install(TARGETS blkbackctl RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})

# The administrator's own file is kept; the new one then lies beside it.
install(CODE "
  set(name blkbackd.conf)
  if(EXISTS \"\$ENV{DESTDIR}${BLKBACKD_SYSCONFDIR}/blkbackd/blkbackd.conf\")
    set(name blkbackd.conf.new)
  endif()
  file(INSTALL DESTINATION \"${BLKBACKD_SYSCONFDIR}/blkbackd\" TYPE FILE
       FILES \"${CMAKE_SOURCE_DIR}/conf/blkbackd.conf\" RENAME \${name})")
install(FILES conf/disks.d/example.conf DESTINATION ${CMAKE_INSTALL_DOCDIR}/disks.d)
install(DIRECTORY DESTINATION ${BLKBACKD_SYSCONFDIR}/blkbackd/disks.d)
install(PROGRAMS conf/block-blkbackd DESTINATION ${BLKBACKD_SYSCONFDIR}/xen/scripts)

set(BLKBACKD_SBINDIR ${CMAKE_INSTALL_FULL_SBINDIR})
configure_file(conf/blkbackd.service ${CMAKE_BINARY_DIR}/conf/blkbackd.service @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/conf/blkbackd.service conf/run-blkbackd-state.mount
        DESTINATION ${BLKBACKD_UNITDIR})

foreach(page blkbackd.8 blkbackctl.8 block-blkbackd.8 blkbackd.conf.5)
  string(REGEX REPLACE ".*\\." "" section ${page})
  install(FILES man/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
