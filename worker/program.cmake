# What a worker keeps on disk.
find_package(SQLiteCpp REQUIRED)
add_library(souk_spool STATIC spool.cpp)
target_link_libraries(souk_spool PUBLIC souk_worker_core Boost::headers PRIVATE souk_wire SQLiteCpp sqlite3 spdlog::spdlog)

# souk-worker: the agent on the wire. Room, session and command store are a library, so that tests can drive them against a real server.
add_library(souk_worker_session STATIC room.cpp session.cpp command_store.cpp remote.cpp)
target_link_libraries(souk_worker_session PUBLIC souk_worker_core souk_spool souk_xmpp spdlog::spdlog)

add_executable(souk-worker main.cpp join.cpp owner.cpp running.cpp)
target_link_libraries(souk-worker PRIVATE souk_worker_session souk_worker_core souk_executor souk_xmpp CLI11::CLI11)
