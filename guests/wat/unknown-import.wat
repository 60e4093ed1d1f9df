;; A command component in good order, but for one import of a package that no host has.
(component
  (import "wasi:nonsense/thing@0.9.0" (instance
    (export "ponder" (func))))
  (core module $guest
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
