-- What Argo CD makes of a SidecarPolicy or ClusterSidecarPolicy. Their status follows kstatus:
-- observedGeneration, then Reconciling and Stalled (absent when not true), then Ready.
-- Only the base library is used: Argo CD opens no other for scripts from its ConfigMap.

local status = obj.status or {}
local conditions = {}
for _, each in ipairs(status.conditions or {}) do
  conditions[each.type] = each
end

local function is(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end

local function health(code, kind)
  local found = conditions[kind]
  return { status = code, message = found.reason .. ": " .. (found.message or "") }
end

-- What is neither True nor under way waits for somebody: paused, stopped, or to be approved.
local current = status.observedGeneration == obj.metadata.generation
local waits = current and is("Ready", "Unknown") and not is("Reconciling", "True")

if obj.metadata.deletionTimestamp ~= nil then
  if waits then
    return health("Suspended", "Ready")
  end
  if current and is("Reconciling", "True") then
    return health("Progressing", "Reconciling")
  end
  local message = "Pending deletion"
  for place, each in ipairs(obj.metadata.finalizers or {}) do
    message = message .. (place == 1 and "; blocked by finalizers: " or ", ") .. each
  end
  return { status = "Progressing", message = message }
end
if not current then
  return { status = "Progressing", message = "Waiting for the operator to report on this generation" }
end
if is("Accepted", "False") then
  return health("Degraded", "Accepted")
end
if is("Stalled", "True") then
  return health("Degraded", "Stalled")
end
if is("Ready", "True") then
  return health("Healthy", "Ready")
end
if waits then
  return health("Suspended", "Ready")
end
if conditions.Ready ~= nil then
  return health("Progressing", "Ready")
end
return { status = "Progressing", message = "Waiting for the operator to report" }
