-- For wrk: a form with cookies, and the figures as `report.lua` prints them.
wrk.method = "POST"
wrk.body = "line=I+was+here&again=yes"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
wrk.headers["Cookie"] = "session=0123456789abcdef; seen=3"
dofile(debug.getinfo(1, "S").source:sub(2):gsub("post.lua$", "report.lua"))
