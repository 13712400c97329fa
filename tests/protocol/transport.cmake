# The transport: fast tests against a scripted server on loopback, system tests against a real Prosody.
add_library(souk_test_prosody STATIC ${CMAKE_SOURCE_DIR}/tests/system/prosody.cpp ${CMAKE_SOURCE_DIR}/tests/system/certificates.cpp)
target_link_libraries(souk_test_prosody PUBLIC souk_xmpp PRIVATE OpenSSL::Crypto)

add_executable(transport_test ${CMAKE_CURRENT_LIST_DIR}/transport_test.cpp ${CMAKE_CURRENT_LIST_DIR}/transport_xml_test.cpp)
target_link_libraries(transport_test PRIVATE souk_xmpp souk_test_prosody GTest::gtest_main)
gtest_discover_tests(transport_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS fast TIMEOUT 60)

add_executable(transport_system_test ${CMAKE_CURRENT_LIST_DIR}/transport_system_test.cpp)
target_link_libraries(transport_system_test PRIVATE souk_xmpp souk_test_prosody GTest::gtest_main)
gtest_discover_tests(transport_system_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS system TIMEOUT 120)
