// Package echo is the conversation between the tests and the servers behind the datapath. A client sends a token; the server answers with
// that token, its own name, the address it saw the client at and the address it was dialled at. A test so learns which server answered, and
// what was translated on the way, from data that came back; a handshake alone proves nothing, because dockerd listens on published ports.
//
// Over TCP a request is a line and an answer a line of JSON, many on one connection. Over UDP each is a datagram.
//
// The invariant: nothing here knows of namespaces, Docker or ebpfnet.
package echo
