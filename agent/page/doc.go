// Package page serves what goes on to a browser: one page, its script and its style, and the counters as JSON, which the script asks for
// while somebody looks at it. Nothing is fetched from elsewhere, nothing is built, and nothing can be changed from here.
//
// The invariant: what comes from containers (names, addresses, labels) reaches the page as text and never as markup, and the page is given
// only to who asks for it under a name that cannot be somebody else's (see hosts.go). It imports agent/api and nothing else of this project.
package page
