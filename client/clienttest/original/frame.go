package original

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// The commands.
const (
	heartbeat     = 0x01
	connMeta      = 0x02
	connAuthAck   = 0x03
	storeAck      = 0x04
	deliverAck    = 0x05
	txAck         = 0x06
	bytesMessage  = 0x11
	stringMessage = 0x12
)

// headerSize is that of a frame:
//
//	offset  0       4    5        7          15       19
//	        opaque  cmd  version  extension  bodyLen  payload
//	bytes   4       1    2        8          4        bodyLen
const (
	headerSize = 19
	maxBody    = 2 << 20
)

// frame is one packet.
type frame struct {
	opaque    uint32
	command   byte
	version   uint16
	extension uint64
	payload   []byte
}

func readFrame(r io.Reader) (frame, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{
		opaque: binary.BigEndian.Uint32(head[0:]), command: head[4],
		version: binary.BigEndian.Uint16(head[5:]), extension: binary.BigEndian.Uint64(head[7:]),
	}
	size := int32(binary.BigEndian.Uint32(head[15:]))
	if size < 0 || size > maxBody {
		return frame{}, fmt.Errorf("original: payload of %d bytes", size)
	}
	f.payload = make([]byte, size)
	_, err := io.ReadFull(r, f.payload)
	return f, err
}

// encode returns the frame's bytes; version and extension are 0.
func encode(opaque uint32, command byte, payload []byte) []byte {
	out := make([]byte, headerSize, headerSize+len(payload))
	binary.BigEndian.PutUint32(out[0:], opaque)
	out[4] = command
	binary.BigEndian.PutUint32(out[15:], uint32(len(payload)))
	return append(out, payload...)
}

// marshal returns the payload of a message with all its required fields.
func marshal(m proto.Message) []byte {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("original: own message does not encode: " + err.Error())
	}
	return payload
}
