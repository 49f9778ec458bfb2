// Package sitetest has replicas for the tests of the endpoint's rooms: handlers that share a memory store, what can befall
// them, and clients that read every byte of what they are sent. All of it keeps to the time of package synctest.
//
// It imports the root, so those who use it are external test packages (session_test, say). Nothing but tests may import it.
package sitetest
