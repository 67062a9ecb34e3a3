package access

import (
	"maps"
	"path"
	"slices"

	"golang.org/x/crypto/bcrypt"

	"github.com/kiteq/kiteq/internal/kite"
)

// Options say where the rules are.
type Options struct {
	// File is the TOML file of the rules. Default "": everybody may do everything.
	File string `toml:"file"`
}

// Rules is who may do what: what is not allowed here is refused. The file has the same shape.
type Rules struct {
	// Groups are the groups of publishers and consumers by name; Others is all that are not named.
	Groups map[string]Group `toml:"groups"`
	// Operators are who may use the operators' port, by name. None: whoever reaches it.
	Operators map[string]Operator `toml:"operators"`
}

// Others is the name of all groups that have no entry of their own.
const Others = "*"

// Group is what a group has to show and what it may do.
type Group struct {
	// Keys are bcrypt hashes of secret keys, each of which is good: two while clients change from one to the next.
	Keys []string `toml:"keys"`
	// Open says that no key is asked for. Without it there must be Keys.
	Open bool `toml:"open"`
	// Publish and Subscribe are patterns of topics, "*" for any part of a name: ["trade", "fee-*"].
	Publish   []string `toml:"publish"`
	Subscribe []string `toml:"subscribe"`
}

// Operator is one who may use the operators' port.
type Operator struct {
	// Keys are bcrypt hashes of tokens, each of which is good.
	Keys []string `toml:"keys"`
	// Certificate says that a client certificate with the operator's name as its common name is as good as a key.
	Certificate bool `toml:"certificate"`
	// Role is "read-only" or "operator".
	Role Role `toml:"role"`
}

// Role is what an operator may do.
type Role string

// The roles.
const (
	ReadOnly Role = "read-only" // look at what there is
	Operate  Role = "operator"  // order, too
)

// maxCost bounds what one look at a key may cost: each step doubles it, and 14 is about a second.
const maxCost = 14

// Validate returns every problem, joined, none of which shows a hash.
func (r Rules) Validate() error {
	var problems kite.Problems
	for _, name := range slices.Sorted(maps.Keys(r.Groups)) {
		g := r.Groups[name]
		if name != Others {
			err := kite.CheckGroup(name)
			problems.Check(err == nil, "groups: %w", err)
		}
		problems.Check(g.Open != (len(g.Keys) > 0), "groups.%q: give keys, or open = true for no key at all, and not both", name)
		checkKeys(&problems, "groups", name, g.Keys)
		for _, p := range slices.Concat(g.Publish, g.Subscribe) {
			_, err := path.Match(p, "")
			problems.Check(err == nil && p != "", "groups.%q: %q is no pattern of topics: write a name, with * for any part of it", name, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Operators)) {
		o := r.Operators[name]
		problems.Check(name != "" && kite.CheckGroup(name) == nil, "operators.%q: 1 to %d bytes without '/' are allowed", name, kite.MaxName)
		problems.Check(o.Certificate || len(o.Keys) > 0, "operators.%q: give keys, or certificate = true", name)
		problems.Check(o.Role == ReadOnly || o.Role == Operate, "operators.%q: role %q: use %q or %q", name, o.Role, ReadOnly, Operate)
		checkKeys(&problems, "operators", name, o.Keys)
	}
	return problems.Err()
}

func checkKeys(problems *kite.Problems, table, name string, keys []string) {
	for i, key := range keys {
		cost, err := bcrypt.Cost([]byte(key))
		problems.Check(err == nil, "%s.%q: key %d is no bcrypt hash: make one with kiteqctl hash", table, name, i+1)
		problems.Check(cost <= maxCost, "%s.%q: key %d has cost %d, at most %d is allowed", table, name, i+1, cost, maxCost)
	}
}

// group returns the entry that is good for the group.
func (r *Rules) group(name string) (Group, bool) {
	g, ok := r.Groups[name]
	if !ok {
		g, ok = r.Groups[Others]
	}
	return g, ok
}

// decoy returns a hash with which a key is compared when its name has none, so that nobody learns by the time
// which names there are.
func (r *Rules) decoy() string {
	for _, g := range r.Groups {
		for _, hash := range g.Keys {
			return hash
		}
	}
	return ""
}

// open returns the groups that need no key, in order.
func (r *Rules) open() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(r.Groups)) {
		if r.Groups[name].Open {
			names = append(names, name)
		}
	}
	return names
}

func anyMatches(patterns []string, topic string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, topic); ok {
			return true
		}
	}
	return false
}

// MaxKey is the longest key, bytes: bcrypt looks at no more.
const MaxKey = 72

// Hash returns the bcrypt hash of a key of 1 to MaxKey bytes.
func Hash(key string) (string, error) {
	if key == "" || len(key) > MaxKey {
		return "", kite.Errorf(kite.Invalid, "a key of %d bytes: 1 to %d are allowed", len(key), MaxKey)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(key), bcrypt.DefaultCost)
	return string(hash), err
}
