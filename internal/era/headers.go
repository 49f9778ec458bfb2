package era

import (
	"net/http"
	"strings"
)

func isJSON(h http.Header) bool {
	values := h["Content-Type"]
	if len(values) != 1 {
		return false
	}
	media, _, _ := strings.Cut(values[0], ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}

// AcceptsEvents reports whether a request takes an event stream for an answer.
func AcceptsEvents(r *http.Request) bool {
	_, stream := accepts(r.Header)
	return stream
}

// accepts reports which shapes of an answer a request takes.
func accepts(h http.Header) (json, stream bool) {
	for _, line := range h["Accept"] {
		if line == "application/json, text/event-stream" { // what nearly everybody sends
			return true, true
		}
		for item := range strings.SplitSeq(line, ",") {
			media, _, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "application/json", "application/*":
				json = true
			case "text/event-stream", "text/*":
				stream = true
			case "*/*":
				return true, true
			}
		}
	}
	return json, stream
}
