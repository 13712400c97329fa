# Stories about whole grids. slixmpp comes from the system's own Python.
foreach(story Batches Losses Graphs Users)
  add_test(NAME story.${story} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/story_test.py ${story})
  set_tests_properties(story.${story} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
endforeach()
add_test(NAME story.ChatClient COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/chat_client_test.py)
set_tests_properties(story.ChatClient PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
# On a small disk of its own; skipped where nothing may be mounted.
add_test(NAME story.Disk COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/disk_test.py)
set_tests_properties(story.Disk PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
add_test(NAME story.WorkerKeeps COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/worker_keeps_test.py)
set_tests_properties(story.WorkerKeeps PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
add_test(NAME story.Keep COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/keep_test.py)
set_tests_properties(story.Keep PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
