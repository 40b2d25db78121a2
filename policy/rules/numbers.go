package rules

// Numbers gives what is compiled its numbers, and remembers them: what is the same in the next compilation has the same number, and no number
// is ever given to something else. It is not safe for concurrent use.
type Numbers struct {
	classes, profiles, rules numbered
}

// NewNumbers begins at the beginning: whatever other numbers the maps hold is replaced as a whole.
func NewNumbers() *Numbers {
	return &Numbers{classes: newNumbered(), profiles: newNumbered(), rules: newNumbered()}
}

// numbered are things of one kind, by what tells one from the other.
type numbered struct {
	next      uint32
	now, last map[string]uint32 // of this compilation and of the one before
}

func newNumbered() numbered {
	return numbered{next: 1, now: map[string]uint32{}, last: map[string]uint32{}}
}

func (n *numbered) begin() {
	n.last, n.now = n.now, map[string]uint32{}
}

// give gives the number of a thing.
func (n *numbered) give(key string) uint32 {
	if id, ok := n.now[key]; ok {
		return id
	}
	id, ok := n.last[key]
	if !ok {
		id = n.next
		n.next++
	}
	n.now[key] = id
	return id
}

func (n *Numbers) begin() {
	n.classes.begin()
	n.profiles.begin()
	n.rules.begin()
}
