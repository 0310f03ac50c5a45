# The component "devel", lcfs as a library: headers, one static library, and lcfs.pc.
# `cmake --install BUILD --component devel` installs it; a plain `cmake --install BUILD` does not.
if(LCFS_SANITIZE)
  return()  # nobody could link it
endif()

# The folders below the tools, and of their headers those that are public.
set(folders base format device engine oci importer exporter extract)
file(GLOB headers RELATIVE ${PROJECT_SOURCE_DIR} base/*.h engine/*.h)  # public, all of them
list(APPEND headers
  format/layout.h format/records.h format/superblock.h
  device/device.h
  importer/import.h
  exporter/export.h exporter/tar_sink.h
  extract/extract.h extract/resolve.h)

list(TRANSFORM folders REPLACE "(.+)" "$<TARGET_OBJECTS:lcfs_\\1>" OUTPUT_VARIABLE objects)
add_library(lcfs_devel STATIC ${objects})
set_target_properties(lcfs_devel PROPERTIES
  OUTPUT_NAME lcfs LINKER_LANGUAGE CXX ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/devel)
install(TARGETS lcfs_devel
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT devel EXCLUDE_FROM_ALL)

foreach(header ${headers})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${PROJECT_SOURCE_DIR}/${header}
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lcfs/${folder} COMPONENT devel EXCLUDE_FROM_ALL)
endforeach()

# The prefix is where the file is found, so that the installed copy can move.
file(RELATIVE_PATH LCFS_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" LCFS_PC_PREFIX "${LCFS_PC_PREFIX}")
configure_file(cmake/lcfs.pc.in ${CMAKE_BINARY_DIR}/devel/lcfs.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/devel/lcfs.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT devel EXCLUDE_FROM_ALL)
