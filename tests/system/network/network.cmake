# Grids on several machines: cut cables, frozen programs, managers that are out of date. Those that need namespaces say so and are skipped where there are none.
foreach(part stale.Stale stale.Folder cut.Cuts cut.Frozen cut.Waiting)
  string(REPLACE "." ";" words ${part})
  list(GET words 0 file)
  list(GET words 1 story)
  add_test(NAME network.${story} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/${file}_test.py ${story})
  set_tests_properties(network.${story} PROPERTIES LABELS system TIMEOUT 240 SKIP_RETURN_CODE 77
    ENVIRONMENT "SOUK=$<TARGET_FILE:souk>;SOUK_MANAGER=$<TARGET_FILE:souk-manager>;SOUK_WORKER=$<TARGET_FILE:souk-worker>")
endforeach()

# A server of one's own, by the written commands only; both kinds.
foreach(story prosody.Server prosody.Findings prosody.Login prosody.Invitations ejabberd.Server ejabberd.Findings ejabberd.Invitations)
  string(REPLACE "." ";" words ${story})
  list(GET words 0 kind)
  list(GET words 1 case)
  add_test(NAME network.${kind}${case} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/server_test.py ${case})
  set_tests_properties(network.${kind}${case} PROPERTIES LABELS system TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "SERVER=${kind};SOUK=$<TARGET_FILE:souk>;SOUK_MANAGER=$<TARGET_FILE:souk-manager>;SOUK_WORKER=$<TARGET_FILE:souk-worker>")
endforeach()

# The same by the page of docs/OPERATIONS.md, as it stands there, on machines with system folders of their own, two of them behind routers.
foreach(kind prosody ejabberd)
  add_test(NAME network.${kind}Campus COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/campus_test.py)
  set_tests_properties(network.${kind}Campus PROPERTIES LABELS system TIMEOUT 240 SKIP_RETURN_CODE 77
    ENVIRONMENT "SERVER=${kind};SOUK=$<TARGET_FILE:souk>;SOUK_MANAGER=$<TARGET_FILE:souk-manager>;SOUK_WORKER=$<TARGET_FILE:souk-worker>")
endforeach()
