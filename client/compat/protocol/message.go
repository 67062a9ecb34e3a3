package protocol

import (
	"google.golang.org/protobuf/protoadapt"
)

// QMessage is a message of either kind.
type QMessage struct {
	// Body is a string or a []byte, decompressed.
	Body interface{}

	header  *Header
	kind    uint8
	message protoadapt.MessageV1
}

// NewQMessage wraps a *BytesMessage or a *StringMessage. Of anything else, nil pointers included, it
// makes nil.
func NewQMessage(msg interface{}) *QMessage {
	switch m := msg.(type) {
	case *BytesMessage:
		if m != nil {
			return &QMessage{Body: m.GetBody(), header: m.GetHeader(), kind: CMD_BYTES_MESSAGE, message: m}
		}
	case *StringMessage:
		if m != nil {
			return &QMessage{Body: m.GetBody(), header: m.GetHeader(), kind: CMD_STRING_MESSAGE, message: m}
		}
	}
	return nil
}

// GetHeader returns the message's header, nil when it has none.
func (m *QMessage) GetHeader() *Header { return m.header }

// GetBody returns Body.
func (m *QMessage) GetBody() interface{} { return m.Body }

// GetMsgType returns CMD_BYTES_MESSAGE or CMD_STRING_MESSAGE.
func (m *QMessage) GetMsgType() uint8 { return m.kind }

// GetPbMessage returns the wrapped message.
func (m *QMessage) GetPbMessage() protoadapt.MessageV1 { return m.message }

// TxResponse is a broker's question about a prepared message, and takes the answer to it: the last
// one that is given, Unknown when there is none.
type TxResponse struct {
	MessageId   string
	Topic       string
	MessageType string

	properties map[string]string
	status     TxStatus
	feedback   string
}

// NewTxResponse returns the question about the message with the header.
func NewTxResponse(header *Header) *TxResponse {
	r := &TxResponse{MessageId: header.GetMessageId(), Topic: header.GetTopic(), MessageType: header.GetMessageType(), properties: map[string]string{}}
	for _, e := range header.GetProperties() {
		r.properties[e.GetKey()] = e.GetValue()
	}
	return r
}

// Commit answers that the local transaction took effect.
func (r *TxResponse) Commit() { r.status, r.feedback = TX_COMMIT, "" }

// Rollback answers that it did not, and never will.
func (r *TxResponse) Rollback(feedback string) { r.status, r.feedback = TX_ROLLBACK, feedback }

// Unknown answers that nobody can tell yet: the broker asks again.
func (r *TxResponse) Unknown(feedback string) { r.status, r.feedback = TX_UNKNOWN, feedback }

// GetProperty returns a property of the message's header.
func (r *TxResponse) GetProperty(key string) (string, bool) {
	value, ok := r.properties[key]
	return value, ok
}

// Answer returns what was answered.
func (r *TxResponse) Answer() (status TxStatus, feedback string) { return r.status, r.feedback }
