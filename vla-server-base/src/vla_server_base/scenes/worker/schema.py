"""The supported MJCF: every element and every attribute that a client's scene may have.

Derived from MuJoCo 3.17 and 4.0 (`mujoco.mj_printSchema`, which leaves out <frame> and <replicate>). What a later
MuJoCo adds is refused until somebody has looked at what it can do and given its integers a range in limits.py. MuJoCo
itself passes over attributes that it does not know inside of a <frame> or a <replicate>.
An element takes what any element of its name takes: where it may stand, MuJoCo checks.
"""

_TEXT = """
accelerometer: cutoff delay interp interval name noise nsample site user
actuator:
actuatorfrc: actuator cutoff delay interp interval name noise nsample user
actuatorpos: actuator cutoff delay interp interval name noise nsample user
actuatorvel: actuator cutoff delay interp interval name noise nsample user
adhesion: body class ctrlrange delay forcelimited forcerange gain group interp name nsample user
asset:
attach: body frame model prefix
ballangvel: cutoff delay interp interval joint name noise nsample user
ballquat: cutoff delay interp interval joint name noise nsample user
body: axisangle childclass euler fuse gravcomp mocap name pos quat simple sleep user xyaxes zaxis
bone: bindpos bindquat body vertid vertweight
camera: axisangle class euler focal focalpixel fovy ipd mode name output pos principal principalpixel projection quat
  resolution sensorsize target user xyaxes zaxis
camprojection: camera cutoff delay interp interval name noise nsample site user
clock: cutoff delay interp interval name noise nsample user
compiler: alignfree angle assetdir autolimits balanceinertia boundinertia boundmass conflict coordinate discardvisual
  eulerseq fitaabb fusestatic inertiafromgeom inertiagrouprange meshdir passthrough savecanonical savecompiled
  saveinertial settotalmass strippath texturedir usethread
connect: active anchor body1 body2 class name site1 site2 solimp solref
contact: activelayers body1 body2 conaffinity condim contype cutoff data delay friction gap geom1 geom2 interp
  interval margin name noise nsample num passive priority reduce selfcollide site solimp solmix solref subtree1
  subtree2 user
custom:
cylinder: area armature bias class cranklength cranksite ctrllimited ctrlrange damping delay diameter forcelimited
  forcerange gear group interp joint jointinparent lengthrange name nsample refsite site slidersite tendon timeconst
  user
damper: armature class cranklength cranksite ctrlrange damping delay forcelimited forcerange gear group interp joint
  jointinparent kv lengthrange name nsample refsite site slidersite tendon user
dcmotor: armature class cogging controller cranklength cranksite ctrllimited ctrlrange damping delay gear group
  inductance input interp joint jointinparent lengthrange lugre motorconst name nominal nsample refsite resistance
  saturation site slidersite tendon thermal user
default: class
deformable:
distance: body1 body2 cutoff delay geom1 geom2 interp interval name noise nsample user
e_kinetic: cutoff delay interp interval name noise nsample user
e_potential: cutoff delay interp interval name noise nsample user
edge: damping equality solimp solref stiffness
elasticity: damping elastic2d poisson section sectionsize shear thickness yield young
element: objname objtype prm
equality: active solimp solref
exclude: body1 body2 name
fixed: actuatorfrclimited actuatorfrcrange armature class damping frictionloss group limited margin name range
  solimpfriction solimplimit solreffriction solreflimit springlength springyield stiffness user
flag: actuation autoreset clampctrl constraint contact damper diagexact energy equality eulerdamp filterparent
  frictionloss fwdinv gravity invdiscrete ipc island limit midphase multiccd nativeccd override refsafe sensor sleep
  speculative spring warmstart
flex: active body cellcount class dim dof element elemtexcoord flatskin flex group material name node nodecoord radius
  rgba solimp solref texcoord vertex
flexcomp: axisangle cellcount count dim dof element euler file flatskin group inertiabox mass material mesh name
  origin point pos quat radius rgba rigid scale spacing texcoord type xyaxes zaxis
flexstrain: active cell class flex name solimp solref
flexvert: active class flex name solimp solref
force: cutoff delay interp interval name noise nsample site user
frame: axisangle childclass class euler name pos quat xyaxes zaxis
frameangacc: cutoff delay interp interval name noise nsample objname objtype user
frameangvel: cutoff delay interp interval name noise nsample objname objtype refname reftype user
framelinacc: cutoff delay interp interval name noise nsample objname objtype user
framelinvel: cutoff delay interp interval name noise nsample objname objtype refname reftype user
framepos: cutoff delay interp interval name noise nsample objname objtype refname reftype user
framequat: cutoff delay interp interval name noise nsample objname objtype refname reftype user
framexaxis: cutoff delay interp interval name noise nsample objname objtype refname reftype user
frameyaxis: cutoff delay interp interval name noise nsample objname objtype refname reftype user
framezaxis: cutoff delay interp interval name noise nsample objname objtype refname reftype user
freejoint: align group name
fromto: body1 body2 cutoff delay geom1 geom2 interp interval name noise nsample user
general: actdim actearly actlimited actrange armature biasprm biastype body class cranklength cranksite ctrllimited
  ctrlrange damping delay dynprm dyntype ffrange forcelimited forcerange gainprm gaintype gear group inheritrange
  input interp joint jointinparent lengthrange name nsample refsite site slidersite tendon user velrange
geom: adhesion axisangle castshadow class conaffinity condim contype density euler fitscale fluidcoef fluidshape
  friction fromto gap geom group hfield margin mass material mesh name pos priority quat rgba shellinertia sidesite
  size solimp solmix solref surfacevel type user xyaxes zaxis
global: azimuth bvactive cameraid elevation ellipsoidinertia fovy glow ipd linewidth offheight offwidth orthographic
  realtime
gyro: cutoff delay interp interval name noise nsample site user
headlight: active ambient diffuse specular
hfield: content_type elevation file name ncol nrow size
inertial: axisangle diaginertia euler fullinertia mass pos quat xyaxes zaxis
insidesite: cutoff delay enclosed interp interval name noise nsample objname objtype site user
intvelocity: actlimited actrange armature class cranklength cranksite ctrllimited ctrlrange damping dampratio delay
  forcelimited forcerange gear group inheritrange interp joint jointinparent kp kv lengthrange name nsample refsite
  site slidersite tendon user
joint: active actuatorfrclimited actuatorfrcrange actuatorgravcomp armature axis class coef damping frictionloss group
  joint joint1 joint2 limited margin name polycoef pos range ref solimp solimpfriction solimplimit solref
  solreffriction solreflimit springdamper springref springyield stiffness type user
jointactuatorfrc: cutoff delay interp interval joint name noise nsample user
jointlimitfrc: cutoff delay interp interval joint name noise nsample user
jointlimitpos: cutoff delay interp interval joint name noise nsample user
jointlimitvel: cutoff delay interp interval joint name noise nsample user
jointpos: cutoff delay interp interval joint name noise nsample user
jointvel: cutoff delay interp interval joint name noise nsample user
key: act ctrl mpos mquat name plastic qpos qvel time
keyframe:
layer: role texture
lengthrange: accel interval inttotal maxforce mode timeconst timestep tolrange useexisting uselimit
light: active ambient attenuation bulbradius castshadow class cutoff diffuse dir directional exponent intensity mode
  name pos range softness specular target texture type
magnetometer: cutoff delay interp interval name noise nsample site user
map: actuatortendon alpha fogend fogstart force haze shadowclip shadowscale stiffness stiffnessrot torque zfar znear
material: class emission metallic name reflectance rgba roughness shininess specular texrepeat texture texuniform
mesh: builtin class content_type face file inertia material maxhullvert name normal params refpos refquat scale
  smoothnormal texcoord vertex
model: content_type file name
motor: armature class cranklength cranksite ctrllimited ctrlrange damping delay forcelimited forcerange gear group
  interp joint jointinparent lengthrange name nsample refsite site slidersite tendon user
mujoco: model
muscle: armature class cranklength cranksite ctrllimited ctrlrange damping delay force forcelimited forcerange fpmax
  fvmax gear group interp joint jointinparent lengthrange lmax lmin name nsample range scale slidersite tausmooth
  tendon timeconst user vmax
normal: body1 body2 cutoff delay geom1 geom2 interp interval name noise nsample user
numeric: data name size
option: actuatorgroupdisable ccd_iterations ccd_tolerance cone density gravity impratio integrator iterations jacobian
  ls_iterations ls_tolerance magnetic noslip_iterations noslip_tolerance o_friction o_margin o_solimp o_solref
  sdf_initpoints sdf_iterations sleep_tolerance solver timestep tolerance viscosity wind
orientation: class ctrlrange dampratio delay forcelimited forcerange group input interp joint kp kv name nsample
  refsite site user
pair: adhesion class condim friction gap geom1 geom2 margin name solimp solref solreffriction
pid: armature class cranklength cranksite ctrllimited ctrlrange damping dampratio delay ffrange forcelimited
  forcerange gear group imax inheritrange input interp joint jointinparent ki kp kv lengthrange name nsample posrange
  refsite site slewmax slidersite tendon user velrange
pin: grid gridrange id range
position: armature class cranklength cranksite ctrllimited ctrlrange damping dampratio delay forcelimited forcerange
  gear group inheritrange interp joint jointinparent kp kv lengthrange name nsample refsite site slidersite tendon
  timeconst user
pulley: divisor
quality: numquads numslices numstacks offsamples shadowsize
rangefinder: camera cutoff data delay interp interval name noise nsample site user
replicate: childclass class count euler offset sep
rgba: actuator actuatornegative actuatorpositive bv bvactive camera com connect constraint contactforce
  contactfriction contactgap contactpoint contacttorque crankbroken fog force frustum haze inertia joint light
  rangefinder selectpoint slidercrank
scale: actuatorlength actuatorwidth camera com connect constraint contactheight contactwidth forcewidth framelength
  framewidth frustum jointlength jointwidth light selectpoint slidercrank
sensor:
site: axisangle class euler fromto group material mesh name pos quat rgba site size type user xyaxes zaxis
size: memory nconmax njmax nkey nstack nuser_actuator nuser_body nuser_cam nuser_geom nuser_jnt nuser_sensor
  nuser_site nuser_tendon nuserdata
skin: face file group inflate material name rgba texcoord vertex
spatial: actuatorfrclimited actuatorfrcrange armature class damping frictionloss group limited margin material name
  range rgba solimpfriction solimplimit solreffriction solreflimit springlength springyield stiffness user width
statistic: center extent meaninertia meanmass meansize
subtreeangmom: body cutoff delay interp interval name noise nsample user
subtreecom: body cutoff delay interp interval name noise nsample user
subtreelinvel: body cutoff delay interp interval name noise nsample user
tactile: cutoff delay geom interp interval mesh name nsample user
tendon: active actuatorfrclimited actuatorfrcrange armature class damping frictionloss group limited margin material
  name polycoef range rgba solimp solimpfriction solimplimit solref solreffriction solreflimit springlength
  springyield stiffness tendon1 tendon2 user width
tendonactuatorfrc: cutoff delay interp interval name noise nsample tendon user
tendonlimitfrc: cutoff delay interp interval name noise nsample tendon user
tendonlimitpos: cutoff delay interp interval name noise nsample tendon user
tendonlimitvel: cutoff delay interp interval name noise nsample tendon user
tendonpos: cutoff delay interp interval name noise nsample tendon user
tendonvel: cutoff delay interp interval name noise nsample tendon user
text: data name
texture: builtin class colorspace content_type embed file fileback filedown filefront fileleft fileright fileup
  gridlayout gridsize height hflip mark markrgb name nchannel random rgb1 rgb2 type vflip width
torque: cutoff delay interp interval name noise nsample site user
touch: cutoff delay interp interval name noise nsample site user
tuple: name
user: cutoff datatype dim name needstage noise objname objtype user
velocimeter: cutoff delay interp interval name noise nsample site user
velocity: armature class cranklength cranksite ctrllimited ctrlrange damping delay forcelimited forcerange gear group
  interp joint jointinparent kv lengthrange name nsample refsite site slidersite tendon user
visual:
weld: active anchor body1 body2 class name relpose site1 site2 solimp solref torquescale
worldbody: axisangle childclass euler fuse gravcomp mocap name pos quat simple sleep user xyaxes zaxis
"""

# Lines that begin with spaces go on with the element before.
_LINES = (line.partition(":") for line in _TEXT.strip().replace("\n ", "").splitlines())
ATTRIBUTES = {tag: frozenset(names.split()) for tag, _, names in _LINES}
