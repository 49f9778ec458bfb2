package task

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// key names an input request of a round to the client.
func key(tools string, round int) string { return tools + "." + strconv.Itoa(round) }

// AppendHandle appends the members of a Task, which is what a call that has become one is answered with.
func (r *Record) AppendHandle(dst []byte) []byte {
	return append(r.appendMembers(append(dst, '{')), '}')
}

// AppendDetail appends a DetailedTask: a Task and what its status asks for (Tasks, "Task Polling").
func (r *Record) AppendDetail(dst []byte, result json.RawMessage) []byte {
	dst = r.appendMembers(append(dst, '{'))
	switch r.Status {
	case InputRequired:
		dst = append(dst, `,"inputRequests":{`...)
		for i, k := range slices.Sorted(maps.Keys(r.Asked)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(wire.AppendString(dst, k), ':')
			dst = append(dst, r.Asked[k].Request...)
		}
		dst = append(dst, '}')
	case Completed:
		dst = append(dst, `,"result":`...)
		dst = append(dst, result...)
	case Failed:
		dst = append(dst, `,"error":`...)
		e, err := json.Marshal(r.Error)
		if err != nil { // its data was no JSON
			e = []byte(`{"code":-32603,"message":"Internal error"}`)
		}
		dst = append(dst, e...)
	case Working, Cancelled:
	}
	return append(dst, '}')
}

func (r *Record) appendMembers(dst []byte) []byte {
	dst = wire.AppendString(append(dst, `"taskId":`...), r.ID)
	dst = append(append(append(dst, `,"status":"`...), r.Status...), '"')
	if r.Message != "" {
		dst = wire.AppendString(append(dst, `,"statusMessage":`...), r.Message)
	}
	dst = appendTime(append(dst, `,"createdAt":`...), r.Created)
	dst = appendTime(append(dst, `,"lastUpdatedAt":`...), r.Updated)
	dst = strconv.AppendInt(append(dst, `,"ttlMs":`...), r.TTL, 10)
	return strconv.AppendInt(append(dst, `,"pollIntervalMs":`...), r.Poll, 10)
}

func appendTime(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, `"2006-01-02T15:04:05.000Z"`)
}
