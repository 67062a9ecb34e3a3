package registry

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/kiteq/kiteq/internal/kite"
)

// MaxBindingData is the most bytes that EncodeBindings makes. ZooKeeper drops the connection, without
// an answer, when a request is over 1 MiB.
const MaxBindingData = 512 << 10

// EncodeBindings returns the data of the bind node of one group on one topic, byte for byte as
// existing clients write it. An empty Version is written as kite.BindingVersion. The error names the
// first binding that is not valid or that belongs to another group or topic than the first one.
func EncodeBindings(bindings []kite.Binding) ([]byte, error) {
	wire := make([]kite.Binding, 0, len(bindings)) // not nil: no bindings are "[]", not "null"
	for _, b := range bindings {
		if err := b.Validate(); err != nil {
			return nil, err
		}
		if b.Group != bindings[0].Group || b.Topic != bindings[0].Topic {
			return nil, kite.Errorf(kite.Invalid, "binding of group %s to topic %s: the node is that of group %s and topic %s, encode each pair by itself",
				b.Group, b.Topic, bindings[0].Group, bindings[0].Topic)
		}
		// JSON would silently replace such bytes, and the binding would match other messages.
		if !utf8.ValidString(b.MessageType) || !utf8.ValidString(b.Group) || !utf8.ValidString(b.Version) {
			return nil, kite.Errorf(kite.Invalid, "binding of group %q to topic %s: messageType %q, version %q: use UTF-8 text", b.Group, b.Topic, b.MessageType, b.Version)
		}
		if b.Version == "" {
			b.Version = kite.BindingVersion
		}
		wire = append(wire, b)
	}
	data, err := json.Marshal(wire)
	if err != nil {
		return nil, kite.Errorf(kite.Internal, "encode %d bindings: %w", len(bindings), err)
	}
	if len(data) > MaxBindingData {
		return nil, kite.Errorf(kite.TooLarge, "%d bindings of group %s to topic %s: %d bytes, at most %d fit in their node: use a pattern or fanout",
			len(bindings), bindings[0].Group, bindings[0].Topic, len(data), MaxBindingData)
	}
	return data, nil
}

// DecodeBindings reads the data of the bind node of group on topic. What cannot be understood, or is
// of another group or topic, is left out of good and named in bad, one error for each; the rest
// counts. Empty data and [] are no bindings, and unknown keys are passed over.
func DecodeBindings(topic, group string, data []byte) (good []kite.Binding, bad []error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return nil, []error{kite.Errorf(kite.Invalid, "bindings of group %s on topic %s: %.64q is no JSON array of bindings: %w", group, topic, data, err)}
	}
	for i, element := range elements {
		b, err := decodeBinding(topic, group, element)
		if err != nil {
			bad = append(bad, kite.Errorf(kite.Invalid, "bindings of group %s on topic %s, element %d: %w", group, topic, i, err))
			continue
		}
		good = append(good, b)
	}
	return good, bad
}

func decodeBinding(topic, group string, element json.RawMessage) (kite.Binding, error) {
	// Every client writes a bindType. Without one the binding is not taken for direct by accident.
	b := kite.Binding{Type: -1}
	if err := json.Unmarshal(element, &b); err != nil {
		return kite.Binding{}, kite.Errorf(kite.Invalid, "%.64q: %w", []byte(element), err)
	}
	switch {
	case b.Topic != topic:
		return kite.Binding{}, kite.Errorf(kite.Invalid, "topic %.64q is not that of the node, want %q", b.Topic, topic)
	case b.Group != group:
		return kite.Binding{}, kite.Errorf(kite.Invalid, "groupId %.64q is not that of the node, want %q", b.Group, group)
	}
	return b, b.Validate()
}
