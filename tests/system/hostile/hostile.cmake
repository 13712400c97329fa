# Parties with bad intentions, each on a real grid. slixmpp comes from the system's own Python.
foreach(party visitor worker)
  add_test(NAME hostile.${party} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/${party}_test.py)
  set_tests_properties(hostile.${party} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
  add_test(NAME hostile.hosted.${party} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/${party}_test.py)
  set_tests_properties(hostile.hosted.${party} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>;SOUK_MARKET=hosted")
endforeach()
# A server that bounds nothing.
add_test(NAME hostile.server COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/server_test.py)
set_tests_properties(hostile.server PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
