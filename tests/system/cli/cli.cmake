# The command line on a real grid; one test a story, each with a grid of its own.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
foreach(story Run Map Wait Terminals Interrupts Queries Terms Control JobFiles Mistakes Many Large Losses)
  add_test(NAME cli.${story} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/cli_test.py ${story})
  set_tests_properties(cli.${story} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
endforeach()
