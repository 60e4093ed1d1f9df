;; A server of wasi:http 0.2 whose handler returns at once, and whose post-return function, which the engine calls after
;; it, loops for ever. No toolchain gives this handler a post-return function; the format allows it.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $guest
    (func (export "handle") (param i32 i32))
    (func (export "after") (loop $again (br $again))))
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle") (post-return (func $guest "after"))))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
