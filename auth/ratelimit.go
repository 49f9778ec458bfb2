package auth

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/auth"
	"golang.org/x/time/rate"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/observe"
)

// RateLimit returns a middleware that lets each user send perSecond requests a second in the long run, and up to burst at
// once; the others are answered with 429. It goes inside [Auth.Protect], which says who the user is. A request
// without a user, which there is only a browser's preflight, is not counted: everybody can send those, and
// a limit that strangers share is one that any of them can use up.
//
// Each process counts for itself: a user of n replicas can have n times as much. Observers are told of requests that are turned
// away.
func RateLimit(perSecond float64, burst int, observers ...observe.Observer) (func(http.Handler) http.Handler, error) {
	full := float64(burst) / perSecond // seconds
	if !(full > 0 && full <= 24*3600) {
		return nil, fmt.Errorf("auth: %v requests a second and %d at once are not a rate limit", perSecond, burst)
	}
	o := observe.Join(observers...)
	l := &limiter{limit: rate.Limit(perSecond), burst: burst, full: time.Duration(full * float64(time.Second))}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if info := sdk.TokenInfoFromContext(r.Context()); info != nil {
				if wait := l.take(info.UserID, time.Now()); wait > 0 {
					observed.Tell(r.Context(), o, observe.Refused{Reason: observe.RefusedRate})
					writeBusy(w, r, http.StatusTooManyRequests, "Too many requests", wait)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}, nil
}

// limiter has a bucket for each user of the last while. After the time that an empty one takes to fill, a bucket that
// nobody took from is like a new one; so whole generations can be forgotten, without a look at any of them.
type limiter struct {
	limit rate.Limit
	burst int
	full  time.Duration // from empty

	mu         sync.Mutex
	young, old map[string]*rate.Limiter
	turned     time.Time
}

// take takes one from the user's bucket. If it is empty, it returns how long that will be so.
func (l *limiter) take(user string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.turned) >= l.full {
		l.young, l.old, l.turned = make(map[string]*rate.Limiter), l.young, now
	}
	bucket := l.young[user]
	if bucket == nil {
		if bucket = l.old[user]; bucket == nil {
			bucket = rate.NewLimiter(l.limit, l.burst)
		}
		l.young[user] = bucket
	}
	reservation := bucket.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}
