//go:build !linux

package proxy

import "syscall"

// boundUnanswered is for systems that say in their own way, or not at all, how long a connection may hang.
func boundUnanswered(_, _ string, _ syscall.RawConn) error { return nil }
