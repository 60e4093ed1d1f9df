module hostel.example/polyglot

go 1.21
