;; A server of wasi:http 0.2 that loops for ever where the host asks it for memory: the host has random bytes to hand over
;; and the guest's own allocator never returns.
(component
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (loop $again (br $again))
      (unreachable)))
  (core instance $memory (instantiate $memory))
  (core func $random (canon lower (func $random "get-random-bytes")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core module $guest
    (import "random" "bytes" (func $random (param i64 i32)))
    (func (export "handle") (param i32 i32)
      (call $random (i64.const 16) (i32.const 0))))
  (core instance $guest (instantiate $guest
    (with "random" (instance (export "bytes" (func $random))))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
