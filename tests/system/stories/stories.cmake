# Stories about whole grids. slixmpp comes from the system's own Python.
foreach(story Batches Losses Graphs Users)
  add_test(NAME story.${story} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/story_test.py ${story})
  set_tests_properties(story.${story} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
endforeach()
add_test(NAME story.ChatClient COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/chat_client_test.py)
set_tests_properties(story.ChatClient PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
# What users' programs and the manager say to each other, and what is lost on the way.
add_test(NAME story.Wire COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/wire_test.py)
set_tests_properties(story.Wire PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
# People in a market that the manager serves itself.
add_test(NAME story.ServedMarket COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/market_test.py)
set_tests_properties(story.ServedMarket PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
# The same where the server's room service keeps the market: what depends on who is in the room, and the stock client.
foreach(story Losses Users)
  add_test(NAME story.hosted.${story} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/story_test.py ${story})
  set_tests_properties(story.hosted.${story} PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>;SOUK_MARKET=hosted")
endforeach()
add_test(NAME story.hosted.ChatClient COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/chat_client_test.py)
set_tests_properties(story.hosted.ChatClient PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>;SOUK_MARKET=hosted")
# On a small disk of its own; skipped where nothing may be mounted.
add_test(NAME story.Disk COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/disk_test.py)
set_tests_properties(story.Disk PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
add_test(NAME story.WorkerKeeps COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/worker_keeps_test.py)
set_tests_properties(story.WorkerKeeps PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
add_test(NAME story.Keep COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/keep_test.py)
set_tests_properties(story.Keep PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
add_test(NAME story.Services COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/services_test.py)
set_tests_properties(story.Services PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>;KERNEL=$<TARGET_FILE:service-kernel>")
add_test(NAME story.Sandbox COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/sandbox_test.py)
set_tests_properties(story.Sandbox PROPERTIES LABELS system TIMEOUT 180 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
# Workers of several owners.
add_test(NAME story.Trust COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/trust_test.py)
set_tests_properties(story.Trust PROPERTIES LABELS system TIMEOUT 240 ENVIRONMENT "SOUK=$<TARGET_FILE:souk>")
