# A minute of torture in all, with seeds that stay the same: docs/RELIABILITY.md. More by hand: scripts/torture --minutes 10 --seed 42
find_package(Python3 REQUIRED COMPONENTS Interpreter)
foreach(seed 1 2 3)
  add_test(NAME torture.Seed${seed} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/torture.py --bin $<TARGET_FILE_DIR:souk> --minutes 0.34 --gap 1.2 --seed ${seed})
  set_tests_properties(torture.Seed${seed} PROPERTIES LABELS "torture;system" TIMEOUT 240 PROCESSORS 2)
endforeach()
add_test(NAME torture.Books COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/books_test.py)
set_tests_properties(torture.Books PROPERTIES LABELS "torture;fast" TIMEOUT 60)
