package redis

// OpenWithin is Open with another bound on calls, for tests that are about something else.
var OpenWithin = open
