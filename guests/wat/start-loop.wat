;; A preview-1 command that never gets to its `_start`: its start section loops for ever, so even making an
;; instance does not end.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $forever (loop $again (br $again)))
  (start $forever)
  (func (export "_start") (call $exit (i32.const 0))))
