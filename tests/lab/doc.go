// Package lab builds what the end-to-end tests run on: hosts, routers and clients as network namespaces, a real dockerd inside each host's
// namespace with an image of its own, clients on any side, captures that verify checksums, and the product attached to it all.
//
// A Suite belongs to one test process and prefixes all that it makes with its process id. Constructors return errors, and what they make has
// Close; helpers that a test calls take testing.TB, fail the test and clean up after it. Suite.Run closes the rest and looks for what was
// left behind.
//
// The invariant: a lab touches only what it made. A dockerd that runs on the machine, its networks and its rules stay as they are.
// Of the product it knows the command line, and imports the shapes that the command line prints (agent/api), nothing else.
package lab
