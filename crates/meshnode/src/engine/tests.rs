mod hostile;
mod map;
mod paths;
mod world;
