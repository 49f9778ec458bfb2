package session

// note is what replicas tell each other of a session.
type note byte

const (
	noteChanged note = 'c' // its record: read it again
	noteEnded   note = 'e'
)

// told tells the other replicas.
func (m *Manager) told(id string, n note) {}
