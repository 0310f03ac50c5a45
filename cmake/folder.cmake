# A folder of the project is a library, lcfs_FOLDER, and a door: the include directory through which
# other folders see its headers, and nothing else.  "#include "engine/store.h"" compiles only in a
# folder whose target links lcfs_engine, so an arrow that is not meant to be fails in the compiler.
# The table of allowed arrows is in doc/design/README.md; tests/base/arrows_test.cc compares it with
# the includes.
#
# lcfs_folder(FOLDER
#   [SOURCES file...]      relative to the folder
#   [HEADERS file...]      those that others may include; without it: all of the folder
#   [PUBLIC target...]     what its headers include
#   [PRIVATE target...]    what only its .cc files include
# )
function(lcfs_folder folder)
  cmake_parse_arguments(arg "" "" "SOURCES;HEADERS;PUBLIC;PRIVATE" ${ARGN})
  set(target lcfs_${folder})
  set(here ${CMAKE_CURRENT_SOURCE_DIR})
  set(door ${CMAKE_BINARY_DIR}/doors/${folder})
  add_library(${target} STATIC ${arg_SOURCES})
  target_link_libraries(${target} PUBLIC lcfs_build ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  if(arg_HEADERS)
    # The folder itself sees all of its rooms, others only the public headers.
    lcfs_door(${CMAKE_BINARY_DIR}/doors/${folder}-inside/${folder} ${here})
    target_include_directories(${target} PRIVATE ${CMAKE_BINARY_DIR}/doors/${folder}-inside INTERFACE ${door})
    foreach(header ${arg_HEADERS})
      lcfs_door(${door}/${folder}/${header} ${here}/${header})
    endforeach()
    # For tests of what is inside.
    add_library(${target}_inside INTERFACE)
    target_link_libraries(${target}_inside INTERFACE ${target} ${arg_PRIVATE})
    target_include_directories(${target}_inside BEFORE INTERFACE ${CMAKE_BINARY_DIR}/doors/${folder}-inside)
  else()
    lcfs_door(${door}/${folder} ${here})
    target_include_directories(${target} PUBLIC ${door})
  endif()
endfunction()

# A symbolic link at `path` to `to`.
function(lcfs_door path to)
  get_filename_component(directory ${path} DIRECTORY)
  file(MAKE_DIRECTORY ${directory})
  file(CREATE_LINK ${to} ${path} SYMBOLIC)
endfunction()
