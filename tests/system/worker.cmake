# souk-worker against a real server and a scripted manager.
add_executable(worker_system_test ${CMAKE_CURRENT_LIST_DIR}/worker_test.cpp ${CMAKE_CURRENT_LIST_DIR}/worker_hostile_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/worker_room_test.cpp ${CMAKE_CURRENT_LIST_DIR}/worker_owner_test.cpp ${CMAKE_CURRENT_LIST_DIR}/worker_keeps_test.cpp ${CMAKE_CURRENT_LIST_DIR}/prosody.cpp ${CMAKE_CURRENT_LIST_DIR}/certificates.cpp)
target_compile_definitions(worker_system_test PRIVATE SOUK_WORKER="$<TARGET_FILE:souk-worker>")
target_link_libraries(worker_system_test PRIVATE souk_worker_session sqlite3 OpenSSL::SSL OpenSSL::Crypto GTest::gtest_main)
add_dependencies(worker_system_test souk-worker souk-runner)
gtest_discover_tests(worker_system_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS system TIMEOUT 60)
