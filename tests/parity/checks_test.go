package parity

import "slices"

// checks are all cases, in the order of the table.
func checks() []check {
	return slices.Concat(outChecks(), portChecks(), errorChecks(), packetChecks(), publishedChecks(), insideChecks(), hostChecks(), closedChecks(),
		fragmentChecks(), streamChecks(), bridgeChecks(), lifeChecks(), pathChecks())
}
