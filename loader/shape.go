package loader

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// shapePin is the name, beside the maps of a layout, of the map that says what is in them. To ask the kernel for it takes CAP_SYS_ADMIN, which
// the agent does without.
const shapePin = "shape"

// shape says where each field of the keys and the values of a layout's maps stands, for a program that knows another layout.
type shape map[string]mapShape // by the map's name

type mapShape struct {
	Key   fields `json:"key"`
	Value fields `json:"value"`
}

// fields are the numbers in a type, by their names: "mac[3]", "rx.packets", or "" for a type that is a number itself. Padding is left out.
type fields map[string]field

type field struct {
	Offset uint32 `json:"offset"`
	Size   uint32 `json:"size"`
}

// shapeOf describes the maps of a specification that are pinned.
func shapeOf(spec *ebpf.CollectionSpec) (shape, error) {
	s := shape{}
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		var one mapShape
		for _, part := range []struct {
			typ  btf.Type
			size uint32
			to   *fields
		}{{m.Key, m.KeySize, &one.Key}, {m.Value, m.ValueSize, &one.Value}} {
			*part.to = fields{}
			if part.typ == nil {
				(*part.to)[""] = field{0, part.size}
			} else if err := part.to.add("", part.typ, 0); err != nil {
				return nil, fmt.Errorf("describe map %s: %w", name, err)
			}
		}
		s[name] = one
	}
	return s, nil
}

func (f fields) add(name string, typ btf.Type, offset uint32) error {
	switch t := btf.UnderlyingType(typ).(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			if m.Name == "pad" {
				continue
			}
			if m.BitfieldSize != 0 {
				return fmt.Errorf("%s.%s is a bit field", t.Name, m.Name)
			}
			inner := m.Name
			if name != "" {
				inner = name + "." + m.Name
			}
			if err := f.add(inner, m.Type, offset+m.Offset.Bytes()); err != nil {
				return err
			}
		}
		return nil
	case *btf.Array:
		size, err := btf.Sizeof(t.Type)
		if err != nil {
			return err
		}
		for i := range t.Nelems {
			if err := f.add(fmt.Sprintf("%s[%d]", name, i), t.Type, offset+i*uint32(size)); err != nil {
				return err
			}
		}
		return nil
	case *btf.Int, *btf.Enum:
		size, err := btf.Sizeof(t)
		if err != nil {
			return err
		}
		f[name] = field{offset, uint32(size)}
		return nil
	default:
		return fmt.Errorf("%s is of type %v, which is no number", name, typ)
	}
}

// move is one field's way from an old entry into a new one.
type move struct{ from, to field }

// moves gives what has to be copied. What the old entry lacks stays zero, what the new one lacks is left behind.
func moves(from, to fields) []move {
	var all []move
	for name, f := range to {
		if old, ok := from[name]; ok {
			all = append(all, move{old, f})
		}
	}
	return all
}

// convert copies an entry's fields into one of the other layout, which must be zero. Out: false where a number does not fit. Numbers that grow
// get zeros: on the little-endian machines that the programs are compiled for, at their end.
func convert(dst, src []byte, plan []move) bool {
	for _, m := range plan {
		old, room := src[m.from.Offset:m.from.Offset+m.from.Size], dst[m.to.Offset:m.to.Offset+m.to.Size]
		n := copy(room, old)
		if len(bytes.Trim(old[n:], "\x00")) != 0 {
			return false
		}
	}
	return true
}

// differs names a map that two shapes have in common and that is not alike in them.
func (s shape) differs(other shape) (string, bool) {
	for name, one := range s {
		if two, ok := other[name]; ok && !(maps.Equal(one.Key, two.Key) && maps.Equal(one.Value, two.Value)) {
			return name, true
		}
	}
	return "", false
}

// pinShape leaves the shape beside the maps, in place of one that is there.
func pinShape(dir string, s shape) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: shapePin, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(b)), MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make map %s: %w", shapePin, err)
	}
	defer m.Close()
	if err := m.Put(uint32(0), b); err != nil {
		return fmt.Errorf("write map %s: %w", shapePin, err)
	}
	pin := filepath.Join(dir, shapePin)
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace map %s: %w", shapePin, err)
	}
	if err := m.Pin(pin); err != nil {
		return fmt.Errorf("pin map %s: %w", shapePin, err)
	}
	return nil
}

// errNoShape says that maps were made by a program that did not say what is in them.
var errNoShape = errors.New("they do not say what is in them")

// pinnedShape reads what pinShape left in a directory of maps.
func pinnedShape(dir string) (shape, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, shapePin), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoShape
	}
	if err != nil {
		return nil, fmt.Errorf("open map %s: %w", shapePin, explain(err))
	}
	defer m.Close()
	b := make([]byte, m.ValueSize())
	if err := m.Lookup(uint32(0), &b); err != nil {
		return nil, fmt.Errorf("read map %s: %w", shapePin, err)
	}
	var s shape
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read map %s: %w", shapePin, err)
	}
	return s, nil
}
