;; Two components in one: the handler of the outer one calls the inner one in an endless loop, so that the loop crosses
;; the border between them twice in each turn.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (component $inner
    (core module $next
      (func (export "next") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
    (core instance $next (instantiate $next))
    (func (export "next") (param "turn" u32) (result u32) (canon lift (core func $next "next"))))
  (instance $inner (instantiate $inner))
  (component $outer
    (import "types" (instance $types
      (export "incoming-request" (type (sub resource)))
      (export "response-outparam" (type (sub resource)))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $outparam))
    (import "next" (func $next (param "turn" u32) (result u32)))
    (core func $lowered (canon lower (func $next)))
    (core module $guest
      (import "inner" "next" (func $next (param i32) (result i32)))
      (func (export "handle") (param i32 i32)
        (local $turn i32)
        (loop $again
          (local.set $turn (call $next (local.get $turn)))
          (br $again))))
    (core instance $guest (instantiate $guest
      (with "inner" (instance (export "next" (func $lowered))))))
    (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
      (canon lift (core func $guest "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "handler" (instance $handler)))
  (instance $outer (instantiate $outer
    (with "types" (instance $types))
    (with "next" (func $inner "next"))))
  (export "wasi:http/incoming-handler@0.2.0" (instance $outer "handler")))
