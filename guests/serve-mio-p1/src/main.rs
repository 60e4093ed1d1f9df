// A program of others, unchanged: the example of a server on a pre-opened socket that comes with mio. It accepts on
// descriptor 3, greets each client, prints what it says, and needs LISTEN_FDS in its environment.
include!(env!("EXAMPLE"));
