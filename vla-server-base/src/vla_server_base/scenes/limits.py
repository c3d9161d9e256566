"""The limits of a client's scene, each with its reason (times: two cores, llvmpipe)."""

from typing import NamedTuple

MAX_XML_BYTES = 2_000_000
"""Of a scene with what it includes and attaches; the menagerie's Panda is 15 kB, a robosuite kitchen below 1 MB."""

MAX_ELEMENTS = 20_000
"""Elements after replication; 20 000 flat geoms compile in 0.7 s, 100 000 in more than 20 s."""

MAX_DEPTH = 300
"""A chain of 400 jointed bodies compiles in 0.2 s; deeper recurses in MuJoCo's C stack."""

MAX_REPLICAS = 4_000
"""Product of nested replicate counts; compiling is quadratic in it: 4 000 takes 0.5 s, 8 000 takes 1.6 s."""

MAX_FLEX_POINTS = 5_000
"""Points of all flexcomps; a grid of 4 096 compiles in 1 s, 8 000 in 4 s, 216 000 never."""

MAX_ASSET_PIXELS = 4096 * 4096
"""Pixels of one PNG, read off its header: a file of 1 MB can unpack to 4 GB."""

MAX_ASSETS = 2_000
"""Files of one scene; the Panda of the menagerie has 67."""

MAX_INCLUDE_DEPTH = 16
"""Files that include one another; each is a parser inside a parser. The kitchen of gymnasium-robotics has 3."""

MAX_MODEL_DEPTH = 4
"""Models that are attached to one another."""

MAX_NAME_CHARS = 200
"""Characters of a file's name, folders included."""

MAX_BUNDLE_ENTRIES = 2 * MAX_ASSETS
"""Entries of a zip, folders and what else lies in them included; each costs a kilobyte before it is read."""

MAX_BUNDLE_BYTES = 256 * 2**20
"""Bytes of all that a zip unpacks to; the Panda with its meshes is 34 MB."""

MAX_BUNDLE_RATIO = 100
"""Bytes that a byte of a zip may unpack to: the Panda's meshes are 7, deflate ends at 1000."""

UNSUSPICIOUS_BYTES = 4 * 2**20
"""A zip may unpack to this size at any ratio."""

MAX_TEXELS = 150_000_000
"""Of all textures that MuJoCo draws by itself; a cube of 4096 has 100 million and takes 1 s."""

MAX_IMAGE_SIDE = 2048
"""Pixels along one side of a rendered image."""

MAX_PHYSICS_STEPS = 20_000
"""Of one request; one step of an arm at a table takes 0.02 to 0.1 ms."""

MAX_POSE_NUMBERS = 2_000_000
"""Of one request's body poses, 7 for each moving body and frame: 16 MB, beside images in one reply."""

MIN_NEAR_PLANE = 1e-6
"""MuJoCo ends its process with exit(1) where extent * znear is smaller ("frustum_near too small")."""


class Range(NamedTuple):
    """The numbers an attribute may hold (each of them, if it holds several), and why."""

    least: float
    largest: float
    reason: str


_INT_MAX = 2**31 - 1
_ITERATIONS = Range(0, 1_000, "each physics step may take as many; 100 is usual")
_BUFFER = Range(0, 100_000, "it is allocated whether it is used or not")
_AUTOMATIC_BUFFER = Range(-1, 100_000, "it is allocated whether it is used or not; -1 has MuJoCo choose")
_TESSELLATION = Range(0, 200, "every sphere is drawn with the square of it")
_BITS = Range(-(2**31), _INT_MAX, "it is a mask of 32 bits")
_INDEX = Range(0, _INT_MAX, "it counts from 0")
_TIME = Range(0, float("inf"), "it is a time in seconds, at least 0")
_SIZE = "the server's setting replaces it anyway"

# By attribute, or by element/attribute where other elements mean something else by the name. Every integer that MuJoCo
# reads is here: it does not check all of them itself, and a negative number of samples has it read beyond its memory.
ATTRIBUTE_RANGES = {
    "timestep": Range(1e-6, 1.0, "it is how far one step of the simulation goes [s]; 0.002 is usual"),
    "memory": Range(-1, 1 << 30, "it is the memory of one simulation; -1 has MuJoCo choose"),
    "njmax": _AUTOMATIC_BUFFER,
    "nconmax": _AUTOMATIC_BUFFER,
    "nstack": Range(-1, 100_000_000, "it is the memory of one simulation; -1 has MuJoCo choose"),
    "nkey": Range(0, 1_000, "every keyframe is allocated; 2e9 of them spin forever"),
    "nuserdata": _BUFFER,
    **{
        f"nuser_{kind}": Range(-1, 1_000, "it is allocated for every element of its kind; -1 has MuJoCo choose")
        for kind in ("actuator", "body", "cam", "geom", "jnt", "sensor", "site", "tendon")
    },
    "iterations": _ITERATIONS,
    "ls_iterations": _ITERATIONS,
    "noslip_iterations": _ITERATIONS,
    "ccd_iterations": _ITERATIONS,
    "sdf_iterations": _ITERATIONS,
    "sdf_initpoints": _ITERATIONS,
    "numslices": _TESSELLATION,
    "numstacks": _TESSELLATION,
    "numquads": _TESSELLATION,
    "shadowsize": Range(0, 8_192, _SIZE),
    "offsamples": Range(0, 64, _SIZE),
    "offwidth": Range(1, 16_384, "the request's size replaces it anyway"),
    "offheight": Range(1, 16_384, "the request's size replaces it anyway"),
    "cameraid": Range(-1, 20_000, "it is a camera's number; -1 is the free one"),
    "headlight/active": Range(0, 1, "the headlight is off or on"),
    "camera/resolution": Range(1, 4_096, "a rangefinder casts a ray for every pixel of it"),
    "texture/width": Range(0, 4_096, "a cube of that size is 300 MB"),
    "texture/height": Range(0, 4_096 * 6, "six squares of 4096 make a cube"),
    "nchannel": Range(1, 4, "a pixel is grey, RGB or RGBA"),
    "gridsize": Range(1, 12, "a cube's six squares lie in a grid of at most twelve"),
    "hfield/nrow": Range(0, 1_024, "1024 x 1024 takes 1 s to send to the renderer"),
    "hfield/ncol": Range(0, 1_024, "1024 x 1024 takes 1 s to send to the renderer"),
    "mesh/params": Range(0, 200, "a built-in mesh of 300 has 90 000 vertices; 10 000 never ends"),
    "maxhullvert": Range(-1, 100_000, "it bounds a convex hull; -1 does not"),
    "mesh/face": _INDEX,
    "skin/face": _INDEX,
    "flex/element": _INDEX,
    "elemtexcoord": _INDEX,
    "vertid": _INDEX,
    "user/dim": Range(0, 10_000, "every number of a sensor is allocated"),
    "flex/dim": Range(1, 3, "a flexible body is a line, a surface or a solid"),
    "flexcomp/dim": Range(1, 3, "a flexible body is a line, a surface or a solid"),
    "cellcount": Range(1, MAX_FLEX_POINTS, "it divides a flexible body"),
    "count": Range(0, _INT_MAX, "it is a number of copies"),
    "activelayers": Range(0, 1_000, "they are layers of a flexible body"),
    "numeric/size": _BUFFER,
    "num": Range(0, 1_000, "every contact of a sensor is allocated"),
    "nsample": Range(0, 1_000, "every sample is allocated"),
    "delay": _TIME,
    "interval": _TIME,
    "actdim": Range(-1, 1_000, "it is allocated for every actuator; -1 has MuJoCo choose"),
    "group": Range(0, 1_000, "MuJoCo shows groups 0 to 5"),
    "inertiagrouprange": Range(0, 1_000, "MuJoCo shows groups 0 to 5"),
    "actuatorgroupdisable": Range(0, 30, "an actuator's group is a bit of a mask"),
    "condim": Range(1, 6, "a contact has 1, 3, 4 or 6 dimensions"),
    "contype": _BITS,
    "conaffinity": _BITS,
    "priority": Range(-(2**31), _INT_MAX, "it is an integer of 32 bits"),
}


class Cap(NamedTuple):
    """The largest number a field of a compiled model may hold, and why."""

    largest: float
    reason: str


# Fields of a compiled model.
MODEL_CAPS = {
    "nbody": Cap(10_000, "contacts grow with the square of it"),
    "ngeom": Cap(20_000, "20 000 spheres take 1 s to draw"),
    "nv": Cap(10_000, "the solver's memory grows with the square of it"),
    "nmeshface": Cap(3_000_000, "rendering costs by the triangle: 140 000 take 30 ms"),
    "nflexvert": Cap(3 * MAX_FLEX_POINTS, "skin and inside of all flexible bodies"),
    "nhfielddata": Cap(1_024 * 1_024, "1024 x 1024 takes 1 s to send to the renderer"),
    "ntexdata": Cap(512_000_000, "it is in memory twice, here and in the renderer"),
}
