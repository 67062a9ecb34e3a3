package kite

import (
	"errors"
	"fmt"
	"regexp"
)

// BindType says how a binding's MessageType is compared. Values are those of the binding znodes.
type BindType int

// The binding types.
const (
	BindDirect BindType = 0 // equal
	BindRegx   BindType = 1 // an RE2 pattern, found anywhere in the type
	BindFanout BindType = 2 // every type
)

func (t BindType) String() string {
	switch t {
	case BindDirect:
		return "direct"
	case BindRegx:
		return "regx"
	case BindFanout:
		return "fanout"
	}
	return fmt.Sprintf("bindType %d", int(t))
}

// Binding is one subscription of a consumer group; its JSON form is an element of a binding znode.
type Binding struct {
	Group       string   `json:"groupId"`
	Topic       string   `json:"topic"`
	MessageType string   `json:"messageType"`
	Type        BindType `json:"bindType"`
	Version     string   `json:"version"`
	// Watermark is how many deliveries a second the group takes; 0 or less means the broker's default.
	Watermark int32 `json:"watermark"`
	// Durable groups get what was published while nobody of them was connected.
	Durable bool `json:"persistent"`
	// Order is OrderNone, OrderByKey or OrderByTopic. It and what follows are this broker's: old brokers and
	// clients pass over them. The first binding of a group on a topic speaks for the others.
	Order Ordering `json:"order,omitempty"`
	// OrderKey is the property that OrderByKey looks at; "" means DefaultOrderKey.
	OrderKey string `json:"orderKey,omitempty"`
	// Broadcast groups get each message on every member that is connected.
	Broadcast bool `json:"broadcast,omitempty"`
}

// Ordering says which messages of a group wait for which.
type Ordering string

// The orderings.
const (
	OrderNone    Ordering = ""      // none waits
	OrderByKey   Ordering = "key"   // a message waits for the earlier ones of its key
	OrderByTopic Ordering = "topic" // a message waits for all earlier ones
)

// DefaultOrderKey is the message property that holds the order key.
const DefaultOrderKey = "kiteq-key"

// BindingVersion is the value of Version in every binding.
const BindingVersion = "1.0.0"

// Direct binds group to one messageType of topic.
func Direct(group, topic, messageType string) Binding {
	return Binding{Group: group, Topic: topic, MessageType: messageType, Type: BindDirect, Version: BindingVersion, Durable: true}
}

// Regx binds group to the messageTypes of topic in which the RE2 pattern is found.
func Regx(group, topic, pattern string) Binding {
	return Binding{Group: group, Topic: topic, MessageType: pattern, Type: BindRegx, Version: BindingVersion, Durable: true}
}

// Fanout binds group to every messageType of topic.
func Fanout(group, topic string) Binding {
	return Binding{Group: group, Topic: topic, MessageType: "*", Type: BindFanout, Version: BindingVersion, Durable: true}
}

// Validate returns an error that names the bad value and what is allowed, or nil.
func (b Binding) Validate() error {
	if err := CheckGroup(b.Group); err != nil {
		return err
	}
	if err := CheckTopic(b.Topic); err != nil {
		return err
	}
	if err := b.checkDelivery(); err != nil {
		return err
	}
	switch b.Type {
	case BindDirect, BindFanout:
		return nil
	case BindRegx:
		if len(b.MessageType) > maxPattern {
			return Errorf(Invalid, "binding of group %s to topic %s: a pattern of %d bytes, at most %d are allowed", b.Group, b.Topic, len(b.MessageType), maxPattern)
		}
		if _, err := regexp.Compile(b.MessageType); err != nil {
			return Errorf(Invalid, "binding of group %s to topic %s: pattern %q is no RE2 expression: %w", b.Group, b.Topic, b.MessageType, err)
		}
		return nil
	}
	return Errorf(Invalid, "binding of group %s to topic %s: bindType %d is not 0 (direct), 1 (regx) or 2 (fanout)", b.Group, b.Topic, int(b.Type))
}

func (b Binding) checkDelivery() error {
	switch b.Order {
	case OrderNone, OrderByKey, OrderByTopic:
	default:
		return Errorf(Invalid, "binding of group %s to topic %s: order %q is not \"key\", \"topic\" or absent", b.Group, b.Topic, string(b.Order))
	}
	switch {
	case len(b.OrderKey) > MaxName:
		return Errorf(Invalid, "binding of group %s to topic %s: an orderKey of %d bytes, at most %d are allowed", b.Group, b.Topic, len(b.OrderKey), MaxName)
	case b.OrderKey != "" && b.Order != OrderByKey:
		return Errorf(Invalid, "binding of group %s to topic %s: orderKey %q without order \"key\"", b.Group, b.Topic, b.OrderKey)
	case b.Broadcast && b.Order != OrderNone:
		return Errorf(Invalid, "binding of group %s to topic %s: broadcast cannot be ordered: leave order away", b.Group, b.Topic)
	}
	return nil
}

const (
	maxPattern = 1024
	maxCached  = 1024
)

// Matcher decides whether a group wants a messageType. It remembers its answers, so one goroutine
// at a time may use it.
type Matcher struct {
	all      bool
	types    map[string]string // to itself
	last     string            // of types, the one that was found last
	patterns []*regexp.Regexp
	answers  map[string]bool // of the patterns; emptied at maxCached
}

// NewMatcher compiles the bindings of one group on one topic. A binding that does not validate is
// left out and named in the error; the Matcher serves the others.
func NewMatcher(bindings []Binding) (*Matcher, error) {
	m := &Matcher{types: map[string]string{}, answers: map[string]bool{}}
	var bad []error
	for _, b := range bindings {
		if err := b.Validate(); err != nil {
			bad = append(bad, err)
			continue
		}
		switch b.Type {
		case BindFanout:
			m.all = true
		case BindDirect:
			m.types[b.MessageType] = b.MessageType
		case BindRegx:
			m.patterns = append(m.patterns, regexp.MustCompile(b.MessageType))
		}
	}
	return m, errors.Join(bad...)
}

// Matches tells whether one of the bindings takes the messageType.
func (m *Matcher) Matches(messageType []byte) bool {
	if m.all {
		return true
	}
	if string(messageType) == m.last && m.last != "" {
		return true
	}
	if found, ok := m.types[string(messageType)]; ok {
		m.last = found
		return true
	}
	if len(m.patterns) == 0 {
		return false
	}
	if answer, ok := m.answers[string(messageType)]; ok {
		return answer
	}
	answer := false
	for _, p := range m.patterns {
		if p.Match(messageType) {
			answer = true
			break
		}
	}
	if len(m.answers) >= maxCached {
		clear(m.answers)
	}
	m.answers[string(messageType)] = answer
	return answer
}
