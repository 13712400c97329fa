# More work than the grid can take at once.
foreach(story Submitters Floods Large)
  add_test(NAME pressure.${story} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/pressure_test.py ${story})
  set_tests_properties(pressure.${story} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
endforeach()
