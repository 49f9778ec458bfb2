// Package sluice serves Model Context Protocol servers, written with the
// official Go SDK, over HTTP.
package sluice
