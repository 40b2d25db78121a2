// Package bench measures the datapath beside what a user would have otherwise: the bare path, a bridge without netfilter, and stock Docker.
// All are there at once and are measured in turns, so that what else the machine does hits all of them alike; a figure is of use only beside
// the others of its run.
package bench
